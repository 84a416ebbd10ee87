"""Send items through the tiers: cheap judges first, escalation, abstention."""
