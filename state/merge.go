package state

func (s *Store) maybeMerge() {}
