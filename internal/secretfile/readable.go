package secretfile

// Exposure is who else may read a file that holds a secret.
type Exposure struct {
	// Mode is the file's mode or, on Windows, who may read it.
	Mode string
	// Remedy is the command that ends it, with FILE for the file.
	Remedy string
}
