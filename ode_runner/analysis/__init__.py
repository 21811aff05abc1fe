"""The accuracy of a gradient and the properties of a learned flow: audits and diagnostics."""
