"""What a run will take, before it is started: memory by following its tensors, time by a calibration."""
