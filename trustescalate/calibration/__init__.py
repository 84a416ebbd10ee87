"""Turn aligned votes and labels into a certificate, or into the reason why there is none."""
