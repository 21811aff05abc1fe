"""From configuration to objects, each option checked before one is made."""
