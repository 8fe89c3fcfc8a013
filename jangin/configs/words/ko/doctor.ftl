# `jangin site doctor` 점검별 문구: 제목, 발견한 내용, 그리고 `.mend`에 해결 방법.
# `any`: 모든 점검이 쓰는 문구와 다른 문구 안에 들어가는 낱말.

any-no_server = 아직 등록 전이라 물어볼 서버가 없습니다. 먼저 `jangin site enroll` 명령으로 등록하십시오
any-after = { $cause } 점검이 먼저 실패했습니다. 그것부터 해결하십시오
any-late = { NUMBER($seconds, maximumFractionDigits: 0) }초가 지나도 끝나지 않았습니다
    .mend = 무엇을 기다리는지(디스크, 네트워크, 다른 프로그램) 살펴본 뒤 다시 점검하십시오
any-broke = 점검 자체가 실패했습니다: { $problem }
    .mend = 이 줄과 함께 알려 주십시오. 오류입니다
any-elsewhere = 리눅스에서만 볼 수 있습니다
any-unsaid = 서버가 알려 주지 않습니다
any-certificate = 서버 인증서
any-authority = ca.crt의 인증 기관
any-roster = 명부
any-staff = 담당자 목록에서 한 역할의 마지막 키
any-suspended = 일시 정지
any-revoked = 폐기

D01 = 버전: 라이브러리가 이 Jangin에 맞는지
D01-fit = Jangin { $version }, 파이썬 { $python }. 라이브러리 { $count }개가 모두 맞습니다
D01-misfit = 맞지 않는 라이브러리: { $libraries }
    .mend = Jangin을 전용 환경에 새로 설치하십시오
D01-uninstalled = Jangin이 패키지로 설치되지 않은 채 실행 중입니다

D02 = 디스크: 상태 폴더의 여유 공간 (`limits.disk_free_min`)
D02-room = 여유 공간 { NUMBER($free, minimumFractionDigits: 1, maximumFractionDigits: 1) }GiB, 하한 { $floor }
D02-full = 여유 공간이 { NUMBER($free, minimumFractionDigits: 1, maximumFractionDigits: 1) }GiB뿐입니다 (하한 { $floor })
    .mend = 상태 폴더가 있는 디스크를 비우거나 site.yaml의 limits.disk_free_min 값을 낮추십시오

D03 = 상한: 학습에 허용한 만큼을 이 컴퓨터가 갖췄는지 (`limits.cpu`, `limits.memory`)
D03-given = 학습에 코어 { $cores }개 중 { $cpu }개, 메모리 { NUMBER($total, minimumFractionDigits: 1, maximumFractionDigits: 1) }GiB 중 { $memory }까지 허용합니다
D03-unmeasured = 학습에 코어 { $cores }개 중 { $cpu }개를 허용합니다. 이 시스템에서는 메모리 크기를 볼 수 없습니다
D03-cores = 학습에 코어 { $cpu }개를 허용했지만 쓸 수 있는 것은 { $cores }개입니다
    .mend = site.yaml의 limits.cpu 값을 { $cores } 이하로 하십시오
D03-memory = 학습에 메모리 { $memory }까지 허용했지만 컴퓨터 전체가 { NUMBER($total, minimumFractionDigits: 1, maximumFractionDigits: 1) }GiB입니다
    .mend = site.yaml의 limits.memory 값을 컴퓨터가 내줄 수 있는 크기로 줄이십시오

D04 = DNS: 서버(또는 그 앞의 프록시) 이름을 찾는지
D04-known = { $host }의 주소: { $addresses }
D04-literal = { $host }: 주소를 직접 적어 이름이 필요 없습니다
D04-unknown = { $host }: 이름을 찾을 수 없습니다 ({ $problem })
    .mend = site.yaml의 server.url에 적은 이름과 이 컴퓨터가 쓰는 DNS 서버를 확인하십시오

D05 = TCP: 서버(또는 그 앞의 프록시)가 응답하는지
D05-open = { $address }: 응답합니다
D05-closed = { $address }: 응답하지 않습니다 ({ $problem })
    .mend = 방화벽에서 { $address } 쪽으로 나가는 TCP를 허용하십시오. 이미 허용했다면 서버가 켜져 있는지 운영자에게 물어보십시오

D06 = TLS: 사업장이 받은 `ca`로 볼 때 진짜 서버인지, 또는 `extra_ca`로 지정한 프록시인지
D06-trusted = { $host }의 인증서를 ca.crt가 보증합니다 (발급자 { $issuer })
D06-inspected = { $host }: 통신을 읽는 검사 프록시를 거칩니다. extra-ca.crt가 그 발급자를 보증합니다 ({ $issuer })
D06-stranger = { $host }의 인증서를 ca.crt가 보증하지 않는 { $issuer }에서 발급했습니다. 중간의 검사 프록시이거나, 연합의 인증 기관이 바뀐 것입니다
    .mend = 보안 검사에서 { $host } 주소를 제외하거나, 그 프록시의 인증서를 --extra-ca로 주어 `jangin site enroll` 명령을 실행하십시오. 운영자가 새 인증 기관이라고 확인하면 새 --ca 파일로 실행하십시오
D06-misnamed = { $host }의 인증서가 아닙니다 ({ $problem })
    .mend = site.yaml의 server.url이 운영자가 알려 준 것과 같은지 확인하십시오
D06-untimely = { $host }의 인증서가 지금 유효하지 않습니다 ({ $problem })
    .mend = 먼저 이 컴퓨터의 날짜를 확인하고, 맞다면 운영자에게 인증서 갱신을 요청하십시오
D06-plain = { $address }: 필요한 TLS로 응답하지 않습니다 ({ $problem })
    .mend = site.yaml의 server.url에 적은 포트를 확인하십시오. 다른 프로그램일 수 있습니다
D06-broken = { $address }: 연결이 도중에 끊겼습니다 ({ $problem })
    .mend = 방화벽이나 프록시 담당자에게 허용을 요청하고, 프록시가 계정을 요구하면 HTTPS_PROXY에 함께 적으십시오. 둘 다 없으면 서버가 켜져 있는지 운영자에게 물어보십시오

D07 = 프록시: 변수를 읽을 수 있고 루프백은 거치지 않는지
D07-direct = 서버까지 프록시를 거치지 않습니다
D07-via = 서버까지 거치는 프록시: { $address }. 루프백은 거치지 않습니다
D07-unreadable = { $variable }: 프록시 주소가 아닙니다
    .mend = http://HOST:PORT 형식으로 적거나 변수를 지우십시오
D07-loopback = { $hosts }: 프록시를 거치게 되어 있습니다
    .mend = NO_PROXY={ $all } 값을 설정하십시오

D08 = 시계: 서버와의 차이가 2초 이내면 정상, 5초를 넘으면 실패
D08-even = 시계가 서버와 맞습니다
D08-ahead = 시계가 서버보다 { NUMBER($seconds, minimumFractionDigits: 1, maximumFractionDigits: 1) }초 빠릅니다
    .mend = NTP를 켜십시오
D08-behind = 시계가 서버보다 { NUMBER($seconds, minimumFractionDigits: 1, maximumFractionDigits: 1) }초 느립니다
    .mend = NTP를 켜십시오

D09 = 키: 세 개가 모두 있고 다른 사용자가 읽을 수 없는지
D09-own = 키 세 개, 이 사용자만 읽을 수 있습니다. 지문 { $fingerprint }

D10 = 명부: 사업장이 자기 키로 올라 있고 서버가 받아 주는지
D10-listed = { $site }: 명부 { $version }판에 있습니다
D10-waiting = 운영자가 아직 { $site } 사업장을 확인하지 않았습니다
    .mend = 운영자에게 전화해 지문 { $fingerprint } 값을 읽어 준 뒤 `jangin site enroll` 명령을 다시 실행하십시오
D10-absent = { $site }: 명부 { $version }판에 없습니다
    .mend = 운영자에게 이유를 물어보십시오. 이곳의 지문은 { $fingerprint }
D10-inactive = { $site }: 명부 { $version }판에서 { $status } 상태입니다
    .mend = 운영자에게 이유와 기한을 물어보십시오
D10-other_key = 명부 { $version }판의 { $site } 키가 이곳의 키와 다릅니다
    .mend = 확인받은 지문이 { $fingerprint } 값이면 `jangin site renew` 명령을 실행하고 새 명부를 요청하십시오. 아니면 확인받은 키를 되살리십시오

D11 = 만료: 사업장이 믿는 것이 만료되었거나 30일 안에 만료되는지 (30일까지 유효한 명부는 7일), 연결 키가 제때 갱신되었는지
D11-long = 가장 먼저 만료되는 것: { $what }, { $date }
D11-soon = { $what }: { $days }일 뒤 { $date }에 만료됩니다
    .mend = 그 전에 새것이 와야 한다고 지금 운영자에게 알리십시오
D11-over = { $what }: { $days }일 전 { $date }에 만료되었습니다
    .mend = 먼저 이 컴퓨터의 날짜를 확인하고, 맞다면 운영자에게 새것을 요청하십시오
D11-stale = 연결 키를 갱신해야 했던 날: { $date }
    .mend = 데몬을 켜 두거나 `jangin site renew` 명령을 실행하십시오. 이미 했다면 운영자에게 명부 갱신을 요청하십시오
D11-nothing = 아직 만료될 것이 없습니다

D12 = 원격 측정: Flower가 실행 사실을 밖에 알리지 않는지
D12-off = Flower의 원격 측정이 꺼져 있습니다
D12-on = Flower의 원격 측정이 켜져 있습니다. { $variable } 값이 0이 아닙니다
    .mend = { $variable }=0으로 설정하고 다시 시작하십시오

D13 = 작업 프로세스: 시작되고, 지어낸 자료로 한 단계를 학습할 때 데몬의 120MiB와 함께 `limits.memory` 안에 드는지
D13-fits = 작업 프로세스가 지어낸 자료로 한 단계를 { NUMBER($seconds, minimumFractionDigits: 1, maximumFractionDigits: 1) }초에 학습했습니다. 데몬과 함께 { $memory } 중 { NUMBER($whole, maximumFractionDigits: 0) }MiB
D13-unmeasured = 작업 프로세스가 지어낸 자료로 한 단계를 { NUMBER($seconds, minimumFractionDigits: 1, maximumFractionDigits: 1) }초에 학습했습니다. 이 시스템에서는 메모리를 볼 수 없습니다
D13-heavy = 작업 프로세스가 지어낸 자료 한 단계에 { NUMBER($peak, maximumFractionDigits: 0) }MiB, 데몬과 함께 { NUMBER($whole, maximumFractionDigits: 0) }MiB를 썼습니다. 상한은 { $memory }
    .mend = site.yaml의 limits.memory 값을 { NUMBER($whole, maximumFractionDigits: 0) }MiB보다 크게 하십시오

D14 = 데이터: 카드와 목록으로 볼 때 기록이 검증 때와 같은지
D14-valid = 검증된 기록: { $processes }

D15 = 동의: 기록이 쓰일 장인이 모두 동의했는지
D15-all = 기록에 있는 장인 { $masters }명 모두 오늘 유효한 동의가 있습니다
D15-some = 기록에 있는 장인 { $masters }명 가운데 { $granted }명만 오늘 유효한 동의가 있습니다
    .mend = `jangin consent list` 명령으로 확인하고, 장인이 동의한 내용을 `jangin consent grant` 명령으로 기록하십시오

D16 = 시간: 허용한 시간과 시간대, 일시 정지로 보아 지금 작업을 시작해도 되는지, busy hook에 물을 수 있는지
D16-no_windows = site.yaml에 정한 시간이 없어 언제든 학습할 수 있습니다
D16-open = 지금 { $now } ({ $zone }) 작업을 시작할 수 있습니다. 허용한 시간: { $windows }
D16-shut = 지금 { $now } ({ $zone }) 작업을 시작하지 않습니다. 다음 시작: { $opens }. 허용한 시간: { $windows }
D16-never = 15일 안에 열리는 시간이 없습니다: { $windows } ({ $zone })
    .mend = site.yaml의 limits.windows 또는 limits.tz 값을 고치십시오
D16-paused = { $since }부터 일시 정지 중이라 작업을 시작하지 않습니다
    .mend = 다시 참여해도 되면 `jangin site resume` 명령을 실행하십시오

D17 = 서비스: 데몬이 루트가 아닌 사용자로 실행 중인지
D17-runs = 데몬이 루트가 아닌 사용자로 실행 중입니다 (프로세스 { NUMBER($pid, useGrouping: 0) })
D17-none = 데몬도 서비스도 아직 없습니다
    .mend = `jangin site service install` 명령으로 서비스를 만들거나 `jangin site run` 명령으로 직접 실행하십시오
D17-stopped = 서비스 { $unit }: 설치되어 있지만 데몬이 실행되고 있지 않습니다
    .mend = `jangin site service start` 명령을 실행하십시오. 멈춘 이유는 `jangin site service status` 명령으로 볼 수 있습니다
D17-root = 데몬이 루트로 실행 중입니다 (프로세스 { NUMBER($pid, useGrouping: 0) })
    .mend = 멈추고, 폴더를 일반 사용자에게 넘긴 뒤 그 사용자로 실행하십시오

D18 = 프로토콜: 서버의 버전이 사업장과 같거나 하나 높은지
D18-same = 서버와 사업장이 모두 { $theirs }판을 씁니다
D18-next = 서버는 { $theirs }판, 이 사업장은 { $ours }판으로, 참여할 수 있는 마지막 판입니다
    .mend = 서버가 다음 판으로 가기 전에 이 컴퓨터의 Jangin을 갱신하십시오
D18-newer = 서버는 { $theirs }판, 이 사업장은 { $ours }판을 씁니다
    .mend = 이 컴퓨터의 Jangin을 갱신하십시오
D18-older = 서버는 { $theirs }판, 이 사업장은 { $ours }판을 씁니다
    .mend = 서버를 언제 갱신하는지 운영자에게 묻고 그때까지 운영자가 알려 주는 Jangin을 설치하십시오

D19 = 장부: 서명이 맞고, 같은 디스크에 장부를 쓰고 내려보낼 수 있는지
D19-written = 장부의 서명이 맞습니다. 시험 항목이 { NUMBER($milliseconds, maximumFractionDigits: 0) }ms 만에 디스크에 남았습니다
D19-unwritable = 장부 옆에 쓸 수 없습니다 ({ $problem })
    .mend = 이 사용자가 상태 폴더에 쓸 수 있게 하고 디스크를 비우십시오

D20 = 수신 대기: 데몬과 점검, 그 하위 프로세스가 루프백 밖에서 기다리지 않는지 (TCP)
D20-loopback = 프로세스 { $count }개 모두 루프백 밖에서 기다리지 않습니다
D20-beyond = 프로세스 { NUMBER($pid, useGrouping: 0) }: 다른 컴퓨터가 닿는 { $address }에서 기다리고 있습니다
    .mend = 멈추거나 127.0.0.1에서만 기다리게 하십시오. 이 사업장은 들어오는 연결이 필요 없습니다
