# `jangin campaign check`와 `jangin campaign rehearse`의 말.

# check
clean = 제안할 수 있는 계획임.
refused = 거부
warning = 주의
works = 다음이면 가능
works-least = { $key }: { $value } 이상
works-most = { $key }: { $value } 이하
works-never = { $key }: 가능한 값 없음
cohort = 참여: 초대 { $invited }곳. 라운드 시작에 필요한 수 { $begin }곳, 모두에게 물을 때 필요한 응답 { $quorum }곳.
opened = 모두가 참여한 안전 합산을 여는 데 필요한 수: { $opened }곳.
no_privacy = NO DIFFERENTIAL PRIVACY: 참여하는 기록의 예산이 모든 사업장의 장부에서 끝남.
promise = 사업장의 { $unit } 하나에 대한 약속: 서버에 대해 ε { $epsilon }, 서버와 나머지 모든 사업장이 결탁하면 { $coalition }, δ { $delta }. 차감되는 라운드는 많아야 { $rounds }개.
charged = 사업장의 장부가 단위 하나에서 차감하는 값(필터 기준)
charged-columns = 단위, 상대, 계획대로일 때 ε, 예약되는 ε, 새 사업장 예산에서의 비율, 그 예산
reading-secure_sum = 서버
reading-coalition = 서버와 나머지 모든 사업장
bytes = 캠페인 전체에서 한 사업장의 바이트(HTTP 머리 포함). 세지 않은 것: TLS, 폴링, 실패한 시도
bytes-columns = 요청, 횟수, 사업장에서, 사업장으로
asked-scale = 척도
asked-train = 학습
asked-evaluate = 평가
asked-commit = 장부 확인값
asked-all = 합계
server_bytes = 서버(모든 사업장 합계): 받음 { $received }, 보냄 { $sent }.
waiting = 그 밖에 사업장은 빠르면 { $seconds }초마다 할 일을 물음: 한 시간에 많아야 보냄 { $up }, 받음 { $down }.
hours = 걸리는 시간: { $estimate }, 라운드마다 { $one } ({ $basis }). 모든 응답이 마감에 온다면 { $deadlines }. 서버가 멈추지 않는 한 늦어도 { $most } 안에 끝남.
basis-rounds = 캠페인 { $of }의 라운드에서 잰 값
basis-rehearsal = 이 계획의 예행연습에서 잰 값
basis-pace = 메시지만의 공개된 값: 학습이 빠져 있어 가장 짧은 시간임

# rehearse
outcome-columns = 사업장, 결과
ready = 준비됨
not_ready = 준비되지 않음: { $code }
left_aside = 답이 제외됨: { $code }
missing = 응답 없음
unapproved = 계획을 승인하지 않아 묻지 않음
local_means = `local`: 이유는 사업장 안에, 그곳의 로그에 있음
waits = { $campaign } 예행연습 { $number }번을 요청함. 실행 중인 서버가 곧 시작함.
answered = 준비됨 { $ready }곳, 아님 { $not_ready }곳, 아직 응답 없음 { $missing }곳
charged_nothing = 차감된 것은 없고, 사업장이 보낸 것에 기록은 들어 있지 않음: 지어낸 자료로 만든 것임.
warm = 준비된 모두에게 한 번 더 물었을 때 걸린 시간: { $seconds }초.
broke_off = 중단됨: { $reason }
