"""nnU-Net you can look inside: biomedical image segmentation that configures itself and says why."""
