"""The pages for people: a playground and a dashboard, served by the gateway itself."""
