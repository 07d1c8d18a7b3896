"""On-policy training: rewards to advantages, advantages to losses. Pure functions; trainers call them."""
