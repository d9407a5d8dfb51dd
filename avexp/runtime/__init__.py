"""What runs in the car: load and check a bundle, pick the plan that fits, infer. NumPy only, Python 3.8 syntax."""
