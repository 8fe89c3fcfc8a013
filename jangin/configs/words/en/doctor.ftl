# What `jangin site doctor` says, by check: its title, then what was found and, as `.mend`, the way out.
# `any`: what every check may say, and single words that stand within others.

any-no_server = not enrolled yet, so there is no server to ask; `jangin site enroll` comes first
any-after = { $cause } failed first; mend that
any-late = no end after { NUMBER($seconds, maximumFractionDigits: 0) } s
    .mend = look at what it waits for (disk, network, other programs), then run the doctor again
any-broke = the check itself broke: { $problem }
    .mend = report it with this line: it is a bug
any-elsewhere = can be seen on Linux alone
any-unsaid = the server does not say
any-certificate = the server's certificate
any-authority = the authority in ca.crt
any-roster = the roster
any-staff = the last key of a role on the staff list
any-suspended = suspended
any-revoked = revoked

D01 = versions: this Jangin's libraries are those that it was made for
D01-fit = Jangin { $version } on Python { $python }; its { $count } libraries fit
D01-misfit = Libraries that do not fit: { $libraries }
    .mend = install Jangin anew into an environment of its own
D01-uninstalled = Jangin runs without having been installed as a package

D02 = disk: the state folder's disk has room (`limits.disk_free_min`)
D02-room = { NUMBER($free, minimumFractionDigits: 1, maximumFractionDigits: 1) } GiB free, the floor is { $floor }
D02-full = Only { NUMBER($free, minimumFractionDigits: 1, maximumFractionDigits: 1) } GiB free, the floor is { $floor }
    .mend = make room on the disk of the state folder, or lower limits.disk_free_min in site.yaml

D03 = caps: the machine has what training may take (`limits.cpu`, `limits.memory`)
D03-given = Training may take { $cpu } of { $cores } cores and { $memory } of { NUMBER($total, minimumFractionDigits: 1, maximumFractionDigits: 1) } GiB
D03-unmeasured = Training may take { $cpu } of { $cores } cores; how much memory there is cannot be seen on this system
D03-cores = Training may take { $cpu } cores, this process gets { $cores }
    .mend = set limits.cpu in site.yaml to { $cores } or less
D03-memory = Training may take { $memory }, the machine has { NUMBER($total, minimumFractionDigits: 1, maximumFractionDigits: 1) } GiB in all
    .mend = set limits.memory in site.yaml below what the machine can spare

D04 = DNS: the server's name, or that of the proxy before it, is known
D04-known = { $host } is { $addresses }
D04-literal = { $host } is an address and needs no name
D04-unknown = { $host } is not found ({ $problem })
    .mend = check the name in server.url of site.yaml, and which DNS server this machine asks

D05 = TCP: the server, or the proxy before it, answers
D05-open = { $address } answers
D05-closed = { $address } does not answer ({ $problem })
    .mend = let outbound TCP to { $address } through the firewall; where it is through, ask the operator whether the server runs

D06 = TLS: whoever answers is the server by the site's own `ca`, or the proxy that its `extra_ca` names
D06-trusted = { $host } shows a certificate by { $issuer }, which ca.crt vouches for
D06-inspected = { $host } is reached through an inspecting proxy, which reads what passes: extra-ca.crt vouches for its { $issuer }
D06-stranger = The certificate shown for { $host } was issued by { $issuer }, which ca.crt does not vouch for: an inspecting proxy on the way, or a federation with a new authority
    .mend = have { $host } exempted from inspection, or run `jangin site enroll` with that proxy's certificates as --extra-ca; where the operator confirms a new authority, with its new --ca
D06-misnamed = The certificate is not for { $host } ({ $problem })
    .mend = check server.url in site.yaml against what the operator gave
D06-untimely = The certificate of { $host } does not count now ({ $problem })
    .mend = look at this machine's date first; where it is right, tell the operator to renew the certificate
D06-plain = { $address } does not speak the TLS that is needed ({ $problem })
    .mend = check the port in server.url of site.yaml; something else may listen there
D06-broken = The connection through { $address } broke off ({ $problem })
    .mend = have whoever runs the firewall or the proxy let it through, with a name and password in HTTPS_PROXY where the proxy wants them; without either, ask the operator whether the server runs

D07 = proxy: its variables can be read, and loopback goes past it
D07-direct = No proxy on the way to the server
D07-via = Through the proxy { $address }; loopback goes past it
D07-unreadable = { $variable } names no proxy
    .mend = write it as http://HOST:PORT, or take the variable away
D07-loopback = { $hosts } would go through the proxy
    .mend = set NO_PROXY={ $all }

D08 = clock: at most 2 s from the server's is well, more than 5 s is refused
D08-even = Clock agrees with the server's
D08-ahead = Clock is { NUMBER($seconds, minimumFractionDigits: 1, maximumFractionDigits: 1) } s ahead
    .mend = enable NTP
D08-behind = Clock is { NUMBER($seconds, minimumFractionDigits: 1, maximumFractionDigits: 1) } s behind
    .mend = enable NTP

D09 = keys: all three are there, and nobody else may read them
D09-own = Three keys, for this user alone; fingerprint { $fingerprint }

D10 = roster: the site is on it by its own keys, and the server answers it
D10-listed = { $site } is on roster { $version }
D10-waiting = The operator has not confirmed { $site } yet
    .mend = read the fingerprint { $fingerprint } to the operator by telephone, then run `jangin site enroll` again
D10-absent = { $site } is not on roster { $version }
    .mend = ask the operator why; the fingerprint here is { $fingerprint }
D10-inactive = { $site } is { $status } on roster { $version }
    .mend = ask the operator why and until when
D10-other_key = Roster { $version } has { $site } by other keys than those here
    .mend = where the fingerprint that was confirmed is { $fingerprint }, run `jangin site renew` and ask for a new roster; else restore the keys that were confirmed

D11 = expiry: nothing that the site believes has run out, or will within 30 days (the roster, which lives for 30: within 7), and the connection's key is renewed in time
D11-long = First to run out is { $what }, on { $date }
D11-soon = { $what } runs out in { $days ->
        [one] one day
       *[other] { $days } days
    }, on { $date }
    .mend = tell the operator now that a new one has to come before that
D11-over = { $what } ran out { $days ->
        [one] one day
       *[other] { $days } days
    } ago, on { $date }
    .mend = look at this machine's date first; where it is right, ask the operator for a new one
D11-stale = The connection's key was to be renewed on { $date }
    .mend = let the daemon run, or run `jangin site renew`; where that was done, ask the operator to renew the roster
D11-nothing = nothing is held yet that could run out

D12 = telemetry: Flower tells nobody that it runs
D12-off = Flower's telemetry is off
D12-on = Flower's telemetry is on: { $variable } is not 0
    .mend = set { $variable }=0 and start again

D13 = worker: it starts, and one step on made-up rows fits under `limits.memory` beside the daemon's 120 MiB
D13-fits = A worker trained one made-up step in { NUMBER($seconds, minimumFractionDigits: 1, maximumFractionDigits: 1) } s; with the daemon { NUMBER($whole, maximumFractionDigits: 0) } MiB of { $memory }
D13-unmeasured = A worker trained one made-up step in { NUMBER($seconds, minimumFractionDigits: 1, maximumFractionDigits: 1) } s; its memory cannot be seen on this system
D13-heavy = A worker took { NUMBER($peak, maximumFractionDigits: 0) } MiB for one made-up step, with the daemon { NUMBER($whole, maximumFractionDigits: 0) } MiB; the cap is { $memory }
    .mend = raise limits.memory in site.yaml above { NUMBER($whole, maximumFractionDigits: 0) } MiB

D14 = data: the records are as they were validated, by card and manifest
D14-valid = Validated records of { $processes }

D15 = consents: each master whose records would be used has granted it
D15-all = A consent holds today for all { $masters } masters of the records
D15-some = A consent holds today for { $granted } of { $masters } masters of the records
    .mend = see `jangin consent list`; record what a master agrees to with `jangin consent grant`

D16 = windows: whether an order may be begun now, by windows, time zone and pause; whether the busy hook can be asked
D16-no_windows = site.yaml names no windows; training may run at any time
D16-open = An order may be begun now, { $now } ({ $zone }); the windows are { $windows }
D16-shut = No order is begun now, { $now } ({ $zone }), nor before { $opens }; the windows are { $windows }
D16-never = None of the windows { $windows } opens within 15 days ({ $zone })
    .mend = change limits.windows or limits.tz in site.yaml
D16-paused = Paused since { $since }: no order is begun
    .mend = run `jangin site resume` when the site may take part again

D17 = service: a daemon runs on the folder, and not as root
D17-runs = The daemon runs as process { NUMBER($pid, useGrouping: 0) }, not as root
D17-none = Neither a daemon nor a service of it is here yet
    .mend = run `jangin site service install`, or `jangin site run` by hand
D17-stopped = The service { $unit } is installed, and no daemon runs
    .mend = run `jangin site service start`; `jangin site service status` says why it stopped
D17-root = The daemon runs as root, as process { NUMBER($pid, useGrouping: 0) }
    .mend = stop it, give the folder to an ordinary user, and run it as that user

D18 = protocol: the server's version is the site's, or one above
D18-same = Server and site speak version { $theirs }
D18-next = The server speaks version { $theirs }, this site { $ours }: the last that still joins
    .mend = update Jangin on this machine before the server goes on
D18-newer = The server speaks version { $theirs }, this site { $ours }
    .mend = update Jangin on this machine
D18-older = The server speaks version { $theirs }, this site { $ours }
    .mend = ask the operator when the server is updated; until then install the Jangin that the operator names

D19 = ledger: its signatures hold, and one like it can be written and flushed on the same disk
D19-written = The ledger's signatures hold; one entry of another is on the disk after { NUMBER($milliseconds, maximumFractionDigits: 0) } ms
D19-unwritable = Nothing can be written beside the ledger ({ $problem })
    .mend = make the state folder writable for this user, and make room on its disk

D20 = listeners: neither the daemon nor the doctor, nor what they started, listens beyond loopback (TCP)
D20-loopback = Of { $count } processes none listens beyond loopback
D20-beyond = Process { NUMBER($pid, useGrouping: 0) } listens on { $address }, where other machines reach it
    .mend = stop it, or have it listen on 127.0.0.1; this site needs no inbound connection
