"""Group managed service accounts, in a domain of Samba 4.22:

managed.py SMB_CONF accounts     makes the other accounts of the domain
managed.py SMB_CONF usable NAME  lets a managed account log in, with AES keys
managed.py SMB_CONF roll NAME    has its password changed when it is used next
managed.py SMB_CONF blob NAME    prints its managed password, and what Samba reads in it"""
import sys

import ldb
from samba.auth import system_session
from samba.dcerpc import gmsa
from samba.ndr import ndr_unpack
from samba.param import LoadParm
from samba.samdb import SamDB

lp = LoadParm()
lp.load(sys.argv[1])
db = SamDB(url=lp.samdb_url(), session_info=system_session(), lp=lp)


def replace(dn, controls=(), **attributes):
    m = ldb.Message()
    m.dn = ldb.Dn(db, str(dn))
    for name, value in attributes.items():
        name = name.replace("_", "-")
        m[name] = ldb.MessageElement(value, ldb.FLAG_MOD_REPLACE, name)
    db.modify(m, controls=list(controls))


def find(name, *attributes):
    return db.search(db.domain_dn(), scope=ldb.SCOPE_SUBTREE, expression="(sAMAccountName=%s)" % name, attrs=list(attributes))[0]


def accounts():
    replace(db.domain_dn(), pwdProperties="0", pwdHistoryLength="0", minPwdLength="1", minPwdAge="0",
            maxPwdAge="-9223372036854775808")
    for name, spns in {"alice": [], "svc-reader": [], "svc-other": [], "svc-app": ["HTTP/app.corp.test"]}.items():
        db.newuser(name, name.removeprefix("svc-") + "-secret")
        replace(find(name).dn, msDS_SupportedEncryptionTypes="24")
        if spns:
            replace(find(name).dn, servicePrincipalName=spns)


def usable(name):
    replace(find(name).dn, userAccountControl="4096", msDS_SupportedEncryptionTypes="24")


def roll(name):
    # The key's interval: an earlier one has ended.
    account = find(name, "msDS-ManagedPasswordId")
    key = bytearray(account["msDS-ManagedPasswordId"][0])
    interval = int.from_bytes(key[12:16], "little")
    key[12:16] = (interval - 1).to_bytes(4, "little")
    replace(account.dn, ["relax:0"], msDS_ManagedPasswordId=bytes(key))


def blob(name):
    value = bytes(find(name, "msDS-ManagedPassword")["msDS-ManagedPassword"][0])
    read = ndr_unpack(gmsa.MANAGEDPASSWORD_BLOB, value)
    previous = read.passwords.previous
    print(value.hex(), read.passwords.current.hex(), previous.hex() if previous is not None else "-",
          read.passwords.query_interval, read.passwords.unchanged_interval)


{"accounts": accounts, "usable": usable, "roll": roll, "blob": blob}[sys.argv[2]](*sys.argv[3:])
