# `jangin data baseline`가 하는 말.

head-episode = { $line }: 학습용 에피소드 { $train }개, 평가용 { $holdout }개
head-master = { $line }: 학습용 장인 { $train }명, 평가용 { $holdout }명
model-constant = 평균
model-trees = 부스팅 트리
wrong = 틀린 비율
judged-holdout = 평가용: { $units }
judged-turns = 번갈아 평가: { $units }
verdict-better = 더 나음
verdict-worse = 더 나쁨
few = 이 정도 기록으로는 알 수 있는 것이 적습니다. 평가용 값은 { $units }개에서 나온 것뿐입니다. 구간이 없거나 "더 나음" 표시가 없는 값은 평균과 구별되지 않습니다.
local = 이 컴퓨터에서 차분 프라이버시 없이 계산했습니다. 아무것도 저장하지 않았고 밖으로 나간 것도 없습니다.
