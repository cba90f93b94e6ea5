"""Where models come from: the built-in index and the installer."""
