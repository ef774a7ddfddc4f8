"""Results for others: records of a leaderboard, tables for a paper, and what differs and why."""
