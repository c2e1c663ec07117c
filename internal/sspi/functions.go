package sspi

// functions are those of secur32.dll that a Client calls. Pointers are to memory that stays
// where it is for the call; what they point to is laid out as in layout.go.
type functions interface {
	// acquireCredentialsHandle acquires the outbound credentials of the process's logon
	// session for a package (AcquireCredentialsHandleW).
	acquireCredentialsHandle(packageName *uint16, credentials *handle, expiry *int64) Status
	freeCredentialsHandle(*handle) Status
	// queryCredentialsName returns the attribute SECPKG_CRED_ATTR_NAMES in memory that
	// freeContextBuffer frees (QueryCredentialsAttributesW).
	queryCredentialsName(credentials *handle, name **uint16) Status
	// initializeSecurityContext is InitializeSecurityContextW with SECURITY_NATIVE_DREP.
	// context and input are nil in the first call.
	initializeSecurityContext(c *contextCall) Status
	deleteSecurityContext(*handle) Status
	// querySecurityPackageInfo and enumerateSecurityPackages return memory that
	// freeContextBuffer frees (QuerySecurityPackageInfoW, EnumerateSecurityPackagesW).
	querySecurityPackageInfo(packageName *uint16, info **packageInfo) Status
	enumerateSecurityPackages(count *uint32, infos **packageInfo) Status
	freeContextBuffer(*byte) Status

	// lsaConnect connects to the local security authority and looks up the package
	// (LsaConnectUntrusted, LsaLookupAuthenticationPackage).
	lsaConnect(packageName string, connection *uintptr, packageID *uint32) Status
	// lsaCall sends a message to the package. The answer is in memory that lsaFree frees
	// (LsaCallAuthenticationPackage). The second status is the package's own.
	lsaCall(connection uintptr, packageID uint32, message []byte, answer **byte, size *uint32) (called, own Status)
	lsaFree(*byte)
	lsaDisconnect(connection uintptr)

	// processUser is the Windows account of the process, DOMAIN\name (GetUserNameExW).
	processUser() (string, error)
}

// contextCall is the memory of one call of InitializeSecurityContext. All that the function
// reads or writes is in it, or in what it points to, so that it lives as long.
type contextCall struct {
	credentials *handle
	context     *handle // nil in the first call
	target      *uint16
	flags       uint32
	input       *secBufferDesc // nil for none
	newContext  handle
	output      secBufferDesc
	attributes  uint32
	expiry      int64

	inputDesc    secBufferDesc
	inputBuffer  secBuffer
	outputBuffer secBuffer
	bindings     []byte
	token        []byte // the output's memory
}
