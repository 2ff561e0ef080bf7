"""Give predictions back their edition's labels; see ``python dataset_conversion/restore_brats_labels.py --help``."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script's own package is not on the path
    from dataset_conversion.commands.restore import main

    sys.exit(main())
