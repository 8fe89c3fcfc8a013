# `jangin data init`의 서식과 `jangin data ingest`의 문구.

readme =
    이 폴더에 { $title }({ $process }) 작업 기록을 넣습니다.
    1. 작업 한 번(에피소드)마다 폴더를 하나 만들고 그 안에 기록 파일을 넣습니다. 폴더 이름에는 사람 이름을 쓰지 마십시오. 예: 2026-11-21-001
    2. episodes.csv를 Excel로 열어 에피소드마다 한 줄씩 적습니다. 첫 칸은 폴더 이름입니다. 모르는 값은 빈칸으로 둡니다. 0을 적지 마십시오.
       시작 시각은 2026-11-21 15:05:07 또는 2026-11-21 오후 3:05처럼 한국 시각으로 적습니다. 장인 칸의 이름은 기록에서 가명으로 바뀝니다.
    3. 현장의 태그 이름이 다르면 mapping.local.yaml에 적습니다. 이 파일은 사업장 밖으로 나가지 않습니다.

    에피소드 폴더의 파일(파일 이름에 스트림 이름이 들어가면 됩니다):
file-table = - { $file }: 1초에 { $rate }번. 열: 시간(s), { $columns }
file-sound = - { $file }: 소리, { $rate } Hz. 마이크: { $columns }
file-pictures = - { $file }: 영상, 1초에 { $rate }장, 크기 { $size }
choice = - { $column } 칸에 쓰는 낱말: { $words }
then =
    다 넣은 뒤: jangin data ingest 이폴더 기록폴더
    다시 실행하면 새 에피소드만 더합니다.
imported = 값 { $samples }개. 쓰이지 않은 태그 { $unread }개. episodes.csv에 에피소드 { $folder }의 줄을 적으십시오. 시작 시각은 비워 두면 기록에서 가져옵니다.
ingested = 에피소드 { $added }개 추가, 기존 { $known }개, 채운 칸 { $filled }개. 다음: jangin data validate
mapping =
    현장의 이름을 공정의 이름으로. 이 파일은 사업장 밖으로 나가지 않습니다.
    tags: 열이나 파일의 현장 이름 -> 스트림.채널, 스트림, context.항목, t(시각), 필요 없으면 "-"
    words: 현장의 낱말 -> 공정의 낱말. 예: 양호: good
    note, deidentified: 카드에 적는 글. 장인에게 어떻게 물었는지, 영상·소리 스트림마다 누구인지 모르게 무엇을 했는지
