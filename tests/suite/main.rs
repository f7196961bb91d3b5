mod guests;
