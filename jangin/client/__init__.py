"""What runs in a factory: the site daemon, its gate and its worker. Not built yet; training/ holds its loop."""
