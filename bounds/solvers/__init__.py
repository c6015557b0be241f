"""The methods that find good multipliers: slopes, interior point, first order."""
