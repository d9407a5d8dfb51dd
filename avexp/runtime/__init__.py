"""What runs in the car: load a bundle, check it, pick the plan that fits this machine, infer. NumPy only, Python 3.8 syntax."""
