"""The rule gym: predict what the planner decides, or find the fault."""
