"""The domain's accounts, and their keys:

accounts.py SMB_CONF accounts             makes them
accounts.py SMB_CONF keytab FILE NAME...  exports the keys of principals

In one process, as samba-tool takes a second for each."""
import sys

import ldb
import samba.dckeytab  # adds Net.export_keytab
from samba import dsdb
from samba.auth import system_session
from samba.credentials import Credentials
from samba.net import Net
from samba.param import LoadParm
from samba.samdb import SamDB

lp = LoadParm()
lp.load(sys.argv[1])


def accounts():
    db = SamDB(url=lp.samdb_url(), session_info=system_session(), lp=lp)
    base = db.domain_dn()

    def dn(name):
        return "CN=%s,CN=Users,%s" % (name, base)

    def replace(dn, **attributes):
        m = ldb.Message()
        m.dn = ldb.Dn(db, dn)
        for name, value in attributes.items():
            name = name.replace("_", "-")
            m[name] = ldb.MessageElement(value, ldb.FLAG_MOD_REPLACE, name)
        db.modify(m)

    def flag(name, bits):
        db.toggle_userAccountFlags("(sAMAccountName=%s)" % name, bits, on=True)

    def user(name, spns=(), aes=True):
        db.newuser(name, (name[4:] if name.startswith("svc-") else name) + "-secret")
        if aes:  # an account without this gets RC4 tickets
            replace(dn(name), msDS_SupportedEncryptionTypes="24")
        if spns:
            replace(dn(name), servicePrincipalName=list(spns))

    # "secret" is no password that a policy likes
    replace(base, pwdProperties="0", pwdHistoryLength="0", minPwdLength="1", minPwdAge="0",
            maxPwdAge="-9223372036854775808")

    db.transaction_start()
    for name in ("alice", "bob", "carol", "dave", "erin", "frank", "fat", "locked", "expired", "mustchange"):
        user(name)
    replace(dn("erin"), userPrincipalName="erin.smith@corp.test")
    replace(dn("frank"), userPrincipalName="frank@mail.example")
    user("svc-proxy", ["HTTP/proxy.corp.test"])
    user("svc-kcd", ["HTTP/kcd.corp.test"])
    user("svc-plain", ["HTTP/plain.corp.test"])
    user("svc-nospn")
    user("svc-fat", ["HTTP/fat.corp.test"])
    user("svc-iis", ["HTTP/iis.corp.test", "HTTP/iis"])
    user("svc-iis2", ["HTTP/iis2.corp.test"])
    user("svc-legacy", ["HTTP/legacy.corp.test"], aes=False)
    user("svc-uncon", ["HTTP/uncon.corp.test"])
    # without it Samba's S4U2Self ticket is not forwardable, and S4U2Proxy refuses it
    flag("svc-proxy", dsdb.UF_TRUSTED_TO_AUTHENTICATE_FOR_DELEGATION)
    flag("svc-uncon", dsdb.UF_TRUSTED_FOR_DELEGATION)
    flag("carol", dsdb.UF_NOT_DELEGATED)
    flag("locked", dsdb.UF_ACCOUNTDISABLE)
    replace(dn("expired"), accountExpires="126000000000000000")  # the year 2000
    replace(dn("mustchange"), pwdLastSet="0")
    for name, targets in {"svc-proxy": ["iis", "iis2"], "svc-kcd": ["iis"], "svc-nospn": ["iis"]}.items():
        replace(dn(name), msDS_AllowedToDelegateTo=["HTTP/%s.corp.test" % t for t in targets])
    db.add_remove_group_members("Protected Users", ["dave"], add_members_operation=True)
    db.transaction_commit()

    # a PAC that does not fit a datagram, nor many a header limit
    db.transaction_start()
    for i in range(600):
        name = "fat%04d" % i
        db.add({"dn": dn(name), "objectClass": "group", "sAMAccountName": name, "member": [dn("fat"), dn("svc-fat")]})
    db.transaction_commit()


def keytab(path, *names):
    net = Net(Credentials(), lp)
    for name in names:
        net.export_keytab(keytab=path, principal=name)


{"accounts": accounts, "keytab": keytab}[sys.argv[2]](*sys.argv[3:])
