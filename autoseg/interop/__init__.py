"""Exchange with nnU-Net and others: their files read and written."""
