// Package rotation changes the password of an account before it is too old: `rotate_password`.
//
// An account's secret is in a keytab or a password file, and its age is the file's. When a change is
// due, [Rotation.Run] does, while no other login of the account is under way:
//
//  1. takes the lock of the account in Caddy's storage, so that one of all Caddys changes the password;
//  2. logs in with the present password, for a ticket of the service that changes it;
//  3. replaces the file by a copy of itself, to see that this can be done;
//  4. chooses a new password, the candidate, and writes it beside the file, sealed (package candidate),
//     and into the storage, sealed with the key of the ticket store, if there is one;
//  5. asks for the change (krb5core.Client.ChangePassword);
//  6. logs in with the candidate, writes it into the file, and removes it beside the file.
//
// Wherever this is interrupted, the account's password is the file's or the candidate. Logins try both
// (package negotiate), and the next run begins with finding out which: it proves each password as
// seldom as possible, three times in all at most. A candidate that may have reached the KDC is never given
// up before a login has shown what became of it: it is asked for again. One that was clearly refused
// is removed at once, from the storage too.
//
// Members of a fleet with files of their own look for the candidate in the storage before each login, and
// every minute; each then writes its own file after a login with it.
package rotation
