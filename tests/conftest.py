"""Shared by all tests: bounded threads, so that the suite is steady on two cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import cv2

cv2.setNumThreads(1)
