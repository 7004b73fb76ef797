"""Ways out of this package: folders and repositories that serve its files to others."""
