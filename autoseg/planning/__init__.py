"""From facts to a plan: every value nnU-Net would choose, each with its reason. No torch is needed here."""
