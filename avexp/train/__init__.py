"""Training behind train.py: Lightning's Trainer with the small parts that make runs exact to the step."""
