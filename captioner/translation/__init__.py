"""English sentences to German, French and Czech ones: a recurrent encoder that reads, the decoder that writes."""
