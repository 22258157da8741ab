"""Read with a frozen model: many questions per picture, answers, attention rows, states."""
