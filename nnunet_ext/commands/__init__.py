"""The sub-commands of ``nnunet_ext``, one module each; ``nnunet_ext.cli`` holds their table."""
