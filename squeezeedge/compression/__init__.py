"""Smaller integer graphs: weights get shorter codes where that hardly changes the class sums."""
