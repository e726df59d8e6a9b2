"""What is kept on disk: files of acquisitions, the journal and the catalogue, and exports to other formats."""
