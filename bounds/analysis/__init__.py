"""What researchers ask of an exact reference: intervals, radii, and audits of others' bounds."""
