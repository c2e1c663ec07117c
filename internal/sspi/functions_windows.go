package sspi

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Open returns the Kerberos client of Windows. It calls nothing yet.
func Open() (*Client, error) {
	for _, p := range procedures {
		if err := p.Find(); err != nil {
			return nil, err
		}
	}
	return newClient(secur32{}, new(pooled)), nil
}

var (
	dll        = windows.NewLazySystemDLL("secur32.dll")
	procedures []*windows.LazyProc

	procAcquireCredentialsHandle       = procedure("AcquireCredentialsHandleW")
	procFreeCredentialsHandle          = procedure("FreeCredentialsHandle")
	procQueryCredentialsAttributes     = procedure("QueryCredentialsAttributesW")
	procInitializeSecurityContext      = procedure("InitializeSecurityContextW")
	procDeleteSecurityContext          = procedure("DeleteSecurityContext")
	procQuerySecurityPackageInfo       = procedure("QuerySecurityPackageInfoW")
	procEnumerateSecurityPackages      = procedure("EnumerateSecurityPackagesW")
	procFreeContextBuffer              = procedure("FreeContextBuffer")
	procLsaConnectUntrusted            = procedure("LsaConnectUntrusted")
	procLsaLookupAuthenticationPackage = procedure("LsaLookupAuthenticationPackage")
	procLsaCallAuthenticationPackage   = procedure("LsaCallAuthenticationPackage")
	procLsaFreeReturnBuffer            = procedure("LsaFreeReturnBuffer")
	procLsaDeregisterLogonProcess      = procedure("LsaDeregisterLogonProcess")
)

func procedure(name string) *windows.LazyProc {
	p := dll.NewProc(name)
	procedures = append(procedures, p)
	return p
}

const (
	credentialsOutbound = 2    // SECPKG_CRED_OUTBOUND
	attributeNames      = 1    // SECPKG_CRED_ATTR_NAMES
	nativeData          = 0x10 // SECURITY_NATIVE_DREP
)

// secur32 is the functions of secur32.dll.
type secur32 struct{}

func (secur32) acquireCredentialsHandle(packageName *uint16, credentials *handle, expiry *int64) Status {
	r, _, _ := syscall.SyscallN(procAcquireCredentialsHandle.Addr(), 0, uintptr(unsafe.Pointer(packageName)), credentialsOutbound,
		0, 0, 0, 0, uintptr(unsafe.Pointer(credentials)), uintptr(unsafe.Pointer(expiry)))
	return Status(r)
}

func (secur32) freeCredentialsHandle(h *handle) Status {
	r, _, _ := syscall.SyscallN(procFreeCredentialsHandle.Addr(), uintptr(unsafe.Pointer(h)))
	return Status(r)
}

func (secur32) queryCredentialsName(credentials *handle, name **uint16) Status {
	r, _, _ := syscall.SyscallN(procQueryCredentialsAttributes.Addr(), uintptr(unsafe.Pointer(credentials)), attributeNames, uintptr(unsafe.Pointer(name)))
	return Status(r)
}

func (secur32) initializeSecurityContext(c *contextCall) Status {
	r, _, _ := syscall.SyscallN(procInitializeSecurityContext.Addr(),
		uintptr(unsafe.Pointer(c.credentials)), uintptr(unsafe.Pointer(c.context)), uintptr(unsafe.Pointer(c.target)),
		uintptr(c.flags), 0, nativeData, uintptr(unsafe.Pointer(c.input)), 0, uintptr(unsafe.Pointer(&c.newContext)),
		uintptr(unsafe.Pointer(&c.output)), uintptr(unsafe.Pointer(&c.attributes)), uintptr(unsafe.Pointer(&c.expiry)))
	return Status(r)
}

func (secur32) deleteSecurityContext(h *handle) Status {
	r, _, _ := syscall.SyscallN(procDeleteSecurityContext.Addr(), uintptr(unsafe.Pointer(h)))
	return Status(r)
}

func (secur32) querySecurityPackageInfo(packageName *uint16, info **packageInfo) Status {
	r, _, _ := syscall.SyscallN(procQuerySecurityPackageInfo.Addr(), uintptr(unsafe.Pointer(packageName)), uintptr(unsafe.Pointer(info)))
	return Status(r)
}

func (secur32) enumerateSecurityPackages(count *uint32, infos **packageInfo) Status {
	r, _, _ := syscall.SyscallN(procEnumerateSecurityPackages.Addr(), uintptr(unsafe.Pointer(count)), uintptr(unsafe.Pointer(infos)))
	return Status(r)
}

func (secur32) freeContextBuffer(b *byte) Status {
	r, _, _ := syscall.SyscallN(procFreeContextBuffer.Addr(), uintptr(unsafe.Pointer(b)))
	return Status(r)
}

func (secur32) lsaConnect(packageName string, connection *uintptr, packageID *uint32) Status {
	r, _, _ := syscall.SyscallN(procLsaConnectUntrusted.Addr(), uintptr(unsafe.Pointer(connection)))
	if Status(r).failed() {
		return Status(r)
	}
	name, err := windows.NewNTString(packageName)
	if err != nil {
		return SEC_E_SECPKG_NOT_FOUND
	}
	r, _, _ = syscall.SyscallN(procLsaLookupAuthenticationPackage.Addr(), *connection, uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(packageID)))
	if Status(r).failed() {
		secur32{}.lsaDisconnect(*connection)
	}
	return Status(r)
}

func (secur32) lsaCall(connection uintptr, packageID uint32, message []byte, answer **byte, size *uint32) (called, own Status) {
	r, _, _ := syscall.SyscallN(procLsaCallAuthenticationPackage.Addr(), connection, uintptr(packageID),
		uintptr(unsafe.Pointer(&message[0])), uintptr(len(message)),
		uintptr(unsafe.Pointer(answer)), uintptr(unsafe.Pointer(size)), uintptr(unsafe.Pointer(&own)))
	return Status(r), own
}

func (secur32) lsaFree(b *byte) {
	_, _, _ = syscall.SyscallN(procLsaFreeReturnBuffer.Addr(), uintptr(unsafe.Pointer(b)))
}

func (secur32) lsaDisconnect(connection uintptr) {
	_, _, _ = syscall.SyscallN(procLsaDeregisterLogonProcess.Addr(), connection)
}

// maxName bounds the name of an account, in UTF-16 units.
const maxName = 1024

func (secur32) processUser() (string, error) {
	name := make([]uint16, maxName)
	size := uint32(len(name))
	if err := windows.GetUserNameEx(windows.NameSamCompatible, &name[0], &size); err != nil {
		return "", err
	}
	return windows.UTF16ToString(name), nil
}
