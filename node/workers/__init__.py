"""Worker processes: one exec'd child per loaded model, spoken to in frames."""
