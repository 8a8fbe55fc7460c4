"""What jobs tell, given on live to who looks: one hub, a bounded queue for each viewer."""
