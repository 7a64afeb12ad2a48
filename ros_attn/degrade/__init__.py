"""Weather and sensor faults put into pairs of visible and infrared images, for training and for measuring."""
