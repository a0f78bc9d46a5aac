package stream
func benchClient() bool { return false }
