"""Pictures and data sets: what models are shown, trained on and measured with."""
