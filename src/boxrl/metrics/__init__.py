"""What evaluation measures: pure functions of targets and predictions."""
