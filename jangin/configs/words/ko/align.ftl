# `jangin data align`이 하는 말.

lag = { $moved }: { $reference } 기준 지연 { $seconds } s. 상관 { $correlation }, 무관한 신호의 표준편차의 { $deviate }배, 에피소드 { $episodes }개 중 { $agree }개가 따로 보아도 일치
joined = 결과가 붙는 에피소드 { $found }/{ $episodes }개: { $columns }
made = { $folder }: 만들었습니다. 에피소드와 평가용 몫은 그대로이며, 쓰기 전에 검사하십시오.
charged = 시간을 옮긴 기록은 프라이버시 장부에는 다른 기록이며, 전에 쓴 예산을 알 수 없습니다. 첫 학습 전에 맞추십시오.
