# `jangin consent`와 `jangin worker` 문구: 장인, 노동자 대표, 사업장 담당자가 읽는 쉬운 문장.

purpose-skill_preservation = 후대를 위한 기술 보존
purpose-training_of_novices = 초보자 교육
purpose-safety = 안전
purpose-quality = 품질 향상
purpose-research = 연구
purpose-demonstration = 시연

prohibited-worker_evaluation = 노동자 평가
prohibited-dismissal = 해고
prohibited-reassignment = 전환 배치

verdict-none = 동의 없음
verdict-altered = 서명된 것과 다름
verdict-revoked = 철회됨
verdict-expired = 만료됨
verdict-not_countersigned = 노동자 대표 서명 대기
verdict-other_purposes = 목적이 다름
verdict-other_channels = 채널이 다름
verdict-covered = 유효

# jangin consent
waits = 노동자 대표가 이 파일에 서명해야 효력이 생깁니다: jangin consent countersign.
columns = 장인, 공정, 목적, 채널, 기한, 상태, 동의
nobody = 장인 없음
taken_back = 다음 지시부터 이곳에서 쓰지 않습니다. 이미 보낸 것은 되돌릴 수 없습니다.
to_sign = 다음 내용에 서명하게 됩니다. 사업장의 서명이 맞습니다(키 { $key }).
site = 사업장
master = 장인
process = 공정
purposes = 목적
channels = 채널
until = 기한
grant = 동의
ask = 노동자 대표로서 서명하시겠습니까?

# jangin worker statement
title = { $site }에서 { $master }의 녹화를 어떻게 썼는가
day = { $day } 기준. 이 사업장의 장부로만 만들었으며 어디로도 보내지 않습니다.
here = 이곳에 있는 녹화: { $episodes }개.
consents = 허락한 것
no_consent = 없음. 기록된 동의가 없어 어떤 녹화도 쓰지 않습니다.
consent = { $process }, 목적: { $purposes }. 채널: { $channels }. 기한: { $until }. 상태: { $state }.
unused = 어떤 녹화도 쓰이지 않았습니다.
campaign = 모델 { $line } (캠페인 { $name }, { $hash })
trained = 녹화 { $episodes }개로 { $count }개 라운드({ $rounds }, 0은 척도를 맞추는 합)에서 학습했습니다. { $first }부터 { $last }까지.
judged = 녹화 { $episodes }개로 { $count }개 라운드({ $rounds }) 뒤에 시험했습니다.
for = 목적: { $purposes }. 금지된 용도: { $prohibited }.
private-episode = 녹화 하나하나가 있든 없든 결과가 거의 같도록 잡음을 더했습니다. 이 캠페인 전체의 epsilon은 { $epsilon }, delta는 { $delta }입니다. epsilon이 작을수록 강하게 보호됩니다. 여러 캠페인의 값은 더해지며 사업장의 장부가 셉니다.
private-master = 이 사업장의 녹화 전체가 있든 없든 결과가 거의 같도록 잡음을 더했습니다. 이 캠페인 전체의 epsilon은 { $epsilon }, delta는 { $delta }입니다. epsilon이 작을수록 강하게 보호됩니다. 여러 캠페인의 값은 더해지며 사업장의 장부가 셉니다.
single = 이는 녹화 하나씩을 숨깁니다. 모든 녹화에 공통된 것은 그보다 덜 숨겨집니다.
not_private = NO DIFFERENTIAL PRIVACY: 잡음을 더하지 않았습니다. 모델을 가진 사람은 녹화에 대해 무언가를 알아낼 수 있습니다.
together = 서버와 나머지 모든 사업장이 결탁하면 보호는 더 약해집니다. 그 값도 사업장의 장부에 있습니다.
secret = 보낸 값은 가려져 있어 그것만으로는 잡음이며, 열 수 있는 것은 여러 사업장의 합입니다.
clear = 서버는 이 사업장이 보낸 값을 그대로 보았습니다.
left = 이 가운데 { $count }개 라운드({ $rounds })에서 숫자가 나갔거나 나갈 준비가 되었습니다. 녹화, 소리, 영상, 이름, 가명은 나가지 않았습니다.
nothing_left = 여기서 배운 것은 아무것도 나가지 않았습니다.
undo = 되돌릴 수 없는 것
remains = 이미 나간 것은 다른 곳에 있는 모델의 일부가 되어 빼낼 수 없습니다. 동의는 언제든 철회할 수 있으며, 다음 라운드부터는 아무것도 쓰이지 않습니다. 사업장 담당자에게 요청하십시오: jangin consent revoke.
free = 없습니다. 이 녹화로 배운 것은 아무것도 나가지 않았습니다. 동의는 언제든 철회할 수 있습니다.
not_covered = 이 프로그램 밖에서 만든 녹화의 사본과, 이 사업장 사람들이 본 것은 이 문서가 알지 못합니다.
