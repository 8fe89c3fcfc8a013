"""What runs at the ministry. So far the round engine (`rounds`); the server process comes with the transport."""
