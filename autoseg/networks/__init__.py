"""The U-Nets, built from numbers: a `NetworkSpec` in, a `torch.nn.Module` out."""
