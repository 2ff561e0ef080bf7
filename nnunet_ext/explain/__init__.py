"""What a trained network's prediction of a case depends on: which modality carries it, and where the network looks."""
