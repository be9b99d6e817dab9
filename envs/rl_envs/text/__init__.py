"""The environments that come with the package, one file each."""
