"""The tables of Salman et al. (2019), measured again."""
