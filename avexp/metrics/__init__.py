"""KPIs as pure functions: detection, lanes, drivable area, path, calibration; also by condition."""
