"""What a network costs: parameters, multiply-accumulates, peak activation memory and latency."""
