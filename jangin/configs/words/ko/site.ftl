# `jangin site` 문구. 점검(doctor)의 문구는 따로 있습니다.

yes = 예
no = 아니요

# enroll, campaigns, approve, decline
compare = 운영자에게 전화해 이 지문을 대조하십시오. 두 사람이 같은 지문을 읽으면 확인됩니다.
no_campaign = 이 사업장을 초대한 캠페인 없음
covered = 장인 { $everybody }명 중 { $covered }명이 동의함. 나머지 사람의 기록은 쓰지 않고 예산도 쓰지 않습니다.
left_out = 에피소드 { $count }개는 예산이 남아 있지 않아 참여하지 않습니다.
known_before = 에피소드 { $count }개는 이전 캠페인에 참여했으며, 그때 쓴 예산이 이어집니다.
stays_spent = 이미 보낸 것은 되돌릴 수 없으며, 쓴 예산도 그대로입니다.

# status, egress
standing = 사업장, 지문, 서버, 명부, 데몬
tasks = 라운드별 작업
tasks-columns = 시각, 캠페인, 라운드, 상태, 코드
departures = 나간 것 (보내기 전에 기록)
departures-columns = 시각, 바이트, sha256, 내용
sums = 열린 안전 합산
sums-columns = 캠페인, 라운드, 시도, 상태
egress-columns = 시각, 종류, 바이트, sha256, 내용
more = { $title } (마지막 { $rows }줄; 더 보려면 --lines N)
nothing_yet = 아직 없음
nothing_left = 나간 것 없음
task-idle = 대기
task-gated = 심사 통과
task-training = 학습 중
task-trained = 학습함
task-sent = 보냄
task-abstained = 기권
task-lost = 잃음
sum-begun = 학습 중
sum-advertised = 키를 알림
sum-shared = 조각을 나눔
sum-masked = 가린 벡터를 보냄
sum-certified = 목록에 서명함

# pause, resume
paused = { $since }부터 일시 정지 중: 작업을 시작하지 않습니다. `jangin site resume` 명령으로 끝냅니다.
goes_on = 캠페인 { $campaign }, 라운드 { NUMBER($round, useGrouping: 0) }: 이미 시작해 계속합니다.
until_resume = `jangin site resume` 명령을 실행할 때까지 이어집니다.
not_paused = 일시 정지 중이 아니었습니다.

# renew, support-bundle
withdrawn = 더는 쓸 수 없는 모델 { $model }: { $reason }
renewing = 연결의 새 키가 명부에 실리기를 기다립니다. 그때까지 옛 키를 씁니다.
handed_in = 새 키가 명부에 실릴 때까지 옛 키를 씁니다. 지문은 그대로입니다.
bundle-columns = 파일, 바이트, 내용
bundle_stays = 이곳에 남습니다. 아무 데도 보내지 않습니다.

# service
written = 씀: { $file }. 다음 명령:
